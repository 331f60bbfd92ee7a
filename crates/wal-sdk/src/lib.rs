//! For clients: write requests, await receipts, read deliveries.
