"""Whatever callers and providers send is answered or refused clearly, with bounded work and memory."""
