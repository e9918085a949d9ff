"""The place of `default_model` before it moved, kept for programs that import it from here."""

from las_sj.checkpoint.loading import default_model as default_model
