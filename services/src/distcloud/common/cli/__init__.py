"""The command line that every engine has, and its client of the API."""
