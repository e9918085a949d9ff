"""What a conversion did and what a converted model does, as JSON, Markdown and HTML."""
