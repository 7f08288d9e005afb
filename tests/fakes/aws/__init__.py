"""AWS within this process: real boto3 clients, whose requests are answered before they would be sent."""
