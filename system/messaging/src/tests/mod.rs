//! Stories of the whole role on one runtime: in-memory ports, and a relay that stores what it is offered.
mod bench;
mod intake;
mod receipts;
mod sequencer;
