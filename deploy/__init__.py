"""Makes what an installation in containers needs beside its images: keys, passwords and certificates."""
