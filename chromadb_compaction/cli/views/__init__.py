"""Views: models of the stored state as commands show it, and their text for a person."""
