"""One plain function per pipeline step; components call them, tests call them without a pipeline."""
