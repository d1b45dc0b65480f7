"""What every service of distcloud shares: configuration, HTTP, authorisation, database, logs."""
