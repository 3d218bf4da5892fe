//! In the making.
pub mod board;
