"""One plain function per pipeline step. Components call them; tests call them without a pipeline."""
