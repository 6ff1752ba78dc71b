"""ShakeDrop: residual branches shaken with other factors forward than backward."""
