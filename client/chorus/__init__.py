"""Client library of Chorus, the self-hosted real-time speech stack."""
