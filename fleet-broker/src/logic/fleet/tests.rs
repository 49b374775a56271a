//! The fleet against clusters that check what they get as an agent would.

mod bench;
mod carrying;
mod clock;
mod cluster;
mod freezing;
mod going_on;
mod observing;
mod placing;
mod recovering;
mod removing;
mod replay;
mod reporting;
mod starting;
mod telling;
mod together;
