"""How well a model withstands common corruptions and small adversarial changes of its inputs."""
