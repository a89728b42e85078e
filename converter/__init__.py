"""The workstation side: trains the shipped network and turns Keras models into verified int8 `.tflite` files."""
