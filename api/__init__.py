"""Everything a person touches: the HTTP API, the client, the command line."""
