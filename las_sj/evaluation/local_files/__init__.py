"""Tasks of lm-eval over local files: a YAML file each, and the functions that read the rows."""
