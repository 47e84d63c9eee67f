"""What leaves the project: tickets with their cards, smaller networks, and ONNX."""
