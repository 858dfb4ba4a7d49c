"""What a blog can do besides: a file a feature, which plugs in and can be left out."""
