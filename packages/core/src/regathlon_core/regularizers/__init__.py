"""One folder per method: settings (no torch), functional form, class, card."""
