"""Autoscaler: nodes come when work waits for them, and go when they have been idle for a while.

sdk                 what programs ask for: ``request_resources``
loop                the shell around ``core/autoscaler``: looks, decides, acts
provider_calls      a provider's methods in threads, with a time limit
providers           what a provider is, and the one that starts nodes on this machine
main                the loop as a process of its own, beside a GCS
"""
