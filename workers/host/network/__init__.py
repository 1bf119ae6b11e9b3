"""Network isolation on Linux: rules through libnftables, namespaces by setns, eBPF programs by rtnetlink.

Starts no program and writes no file; the rules of every other firewall are left alone.
"""
