"""The HTTP server, the application that every engine starts from, and its request and response types."""
