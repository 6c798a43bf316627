//! What is made of a run's results: figures, table, files. On hand-made results.

mod analysis;
mod boots;
mod calibration;
mod density;
mod example;
mod files;
mod hostile;
mod inside;
mod metrics;
mod schema;
mod table;
