//! Stock cloud images: fetched, checked, exported, and booted as they are.

#[path = "../common/mod.rs"]
mod common;
mod disk;
mod sources;
mod stock;
