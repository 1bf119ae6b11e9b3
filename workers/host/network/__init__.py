"""Network isolation on Linux: rules through libnftables, namespaces by setns, eBPF programs by rtnetlink.

Starts no program and writes no file; every other firewall's rules are left alone.
"""
