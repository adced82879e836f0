"""Model servers as exposed services of an OSCAR cluster."""
