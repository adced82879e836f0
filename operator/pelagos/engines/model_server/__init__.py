"""Model servers on a cluster, whichever engine creates their pods; the base of kserve and deployment."""
