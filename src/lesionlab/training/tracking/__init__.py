"""Where a history goes besides history.csv: TensorBoard, MLflow, Weights & Biases."""
