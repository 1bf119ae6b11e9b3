"""The port ``Network`` on Linux: rules through libnftables, namespaces by setns, eBPF programs by rtnetlink.

Put together by bootstrap. Starts no program and writes no file; every other firewall's rules are left alone.
"""

from workers.adapters.nftables.network import SystemNetwork

__all__ = ["SystemNetwork"]
