"""What every service is built on: event contracts, delivery, time, HTTP. It knows no service."""
