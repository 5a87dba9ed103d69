"""Exchange with other toolkits, one file for each partner. A partner is imported where it is used, not before."""

from snnkit.interop import spikingjelly as spikingjelly
