"""The fewest loads that are possible, for every number of models that fit at once.

Whoever knew the future would drop the model that is needed again last (Belady, "A study of
replacement algorithms", 1966). That is a stack algorithm too (Mattson and others, 1970): one pass
answers for every size. No order of evictions beats it, so it tells a bad order of keys from a bad
choice of what to keep.
"""

from __future__ import annotations

import numpy as np

from mmlab._compiled import IS_FAST, compiled


def fewest_loads(visits: np.ndarray, models: int) -> np.ndarray:
    """Loads of an optimal cache with room for 1, 2, … `models` models.

    Args:
      visits: numbers of models in order, shape (n,), integers from 0 to `models` - 1. All of them
        are needed at once, because the optimum looks ahead.

    Returns:
      int64, shape (models,).
    """
    visits = np.ascontiguousarray(visits, np.int32)
    counts = np.zeros(models + 1, np.int64)
    arrays = (visits, np.zeros(len(visits), np.int32 if len(visits) < 2**31 else np.int64))
    work = (*arrays, *(np.full(models, fill, np.int64) for fill in (len(visits), 0, 0, -1)), counts)
    if IS_FAST:
        _walk(*work)
    else:
        work = tuple(array.tolist() for array in work)  # lists are quicker than arrays in Python
        _walk(*work)
        counts = np.array(work[-1])
    return len(visits) - np.cumsum(counts[1:])


@compiled
def _walk(visits, following, upcoming, stack, due, place, counts):
    """Count at which depth of the optimum's stack each visit finds its model; 0 is not there.

    A model that is visited goes to the top. The one that was there moves down, and changes places
    with every model on its way that is needed later than itself.
    """
    end = len(visits)
    for t in range(end - 1, -1, -1):
        following[t] = upcoming[visits[t]]
        upcoming[visits[t]] = t
    held = 0
    for t in range(end):
        visited = visits[t]
        depth = place[visited]
        if depth < 0:
            counts[0] += 1
            depth = held
            held += 1
        else:
            counts[depth + 1] += 1
        moving = stack[0]
        moving_due = due[0]
        k = 1
        while k < depth and moving_due < end:
            later = due[k]
            if later > moving_due:
                displaced = stack[k]
                stack[k] = moving
                due[k] = moving_due
                place[moving] = k
                moving = displaced
                moving_due = later
            k += 1
        if depth:
            stack[depth] = moving
            due[depth] = moving_due
            place[moving] = depth
        stack[0] = visited
        due[0] = following[t]
        place[visited] = 0
