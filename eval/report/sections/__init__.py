"""What the page says: each module writes one part of it."""
