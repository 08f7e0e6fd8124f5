"""HTTP: what members' apps and clinicians' programs ask for and do. The console's pages are in pages/."""
