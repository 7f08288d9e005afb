"""AWS in this process: real boto3 clients whose requests are answered instead of sent."""
