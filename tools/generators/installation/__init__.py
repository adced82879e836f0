"""What a cluster installs: objects written once, rendered as a kustomize tree and as a Helm chart. Committed by generate.py."""
