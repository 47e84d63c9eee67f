"""What leaves the project: tickets with their cards, smaller networks, masks for torch, ONNX."""
