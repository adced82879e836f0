"""What a cluster installs and follows from the code: roles, admission policies, definitions, and the chart's copies of them."""
