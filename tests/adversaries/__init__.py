"""Programs that resist: they execute themselves anew, rename themselves, rewrite their arguments, hide and wait."""
