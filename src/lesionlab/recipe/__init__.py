"""All settings of a training: schema, presets, loading and validation."""
