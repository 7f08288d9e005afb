"""The whole system on one machine: ministack with the Pulumi program deployed into it."""
