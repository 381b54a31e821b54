"""Who is calling: API keys of systems, bearer tokens of people, the roles of both and how often each may call."""
