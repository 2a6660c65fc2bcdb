//! Learns bearing faults from streamed windows of vibration in 32 KB of RAM; `scripts/applications.py` runs it.
#![cfg_attr(target_os = "none", no_std, no_main)]

use tintin_mcu::application::bearing::{Vibration, net};

#[path = "../streamed.rs"]
mod streamed;

streamed::application!(net, Vibration);
