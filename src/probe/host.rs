use crate::sample;
pub fn noise() -> sample::Noise { sample::Noise::default() }
pub fn facts() -> sample::Host { sample::Host::default() }
