"""A long run that is watched: does it stay as it was, or grow?"""
