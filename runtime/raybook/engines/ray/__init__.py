"""The engine on a real Ray cluster: raybook's API, magics and libraries over what somebody else's Ray runs.

links      what raybook's references and handles hold: Ray's own         hosting   raybook's functions and classes as Ray's
engine     the Engine protocol                                           streams   items of generators
options    raybook's records in Ray's words                              errors    Ray's errors as raybook's
questions  what raybook asks its GCS, answered by Ray's state
contexts   which task runs here, as Ray knows it                         rows      Ray's tasks as rows of facts
board      facts of this process and of Ray, for panels                  sampler   looks at Ray while somebody looks
"""
