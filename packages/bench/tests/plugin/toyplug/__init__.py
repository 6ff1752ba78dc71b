"""What a third party would install: tasks and regularizers of their own, for the tests of the runner."""
