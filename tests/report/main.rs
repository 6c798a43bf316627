//! What is made of a run's results: figures, table, files. On hand-made results.

mod analysis;
mod boots;
mod calibration;
mod example;
mod files;
mod schema;
mod table;
