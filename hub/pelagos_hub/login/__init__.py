"""Who is there: by an OpenID provider, or by a link that works once on the machine itself; sessions, and forms that are ours."""
