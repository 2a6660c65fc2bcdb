//! Learns to tell signals from noise from streamed statistics in 32 KB of RAM; `scripts/applications.py` runs it.
#![cfg_attr(target_os = "none", no_std, no_main)]

use tintin_mcu::application::spectrum::{Receiver, net};

#[path = "../streamed.rs"]
mod streamed;

streamed::application!(net, Receiver);
