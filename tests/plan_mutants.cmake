# Seeded bugs in the lists of changes: each is a copy of one source file with one piece of text
# replaced, linked before the runtime into test_plan_changes, which must see that the copy differs.
# A mutant whose text is not found exactly once stops the configuration: bring it up to date.
#
#   coppice_plan_mutant(name FILE "text as it is" "text as the bug has it")
add_library(coppice_plan_changes_test OBJECT test_plan_changes.c)
target_link_libraries(coppice_plan_changes_test PRIVATE coppice_oracles)

function(coppice_plan_mutant name file right wrong)
  set(source ${CMAKE_SOURCE_DIR}/runtime/kv/${file})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  file(READ ${source} text)
  string(REPLACE "${right}" "" without "${text}")
  string(LENGTH "${text}" length)
  string(LENGTH "${without}" length_without)
  string(LENGTH "${right}" length_right)
  math(EXPR times "(${length} - ${length_without}) / ${length_right}")
  if(NOT times EQUAL 1)
    message(FATAL_ERROR "mutant ${name}: its text stands ${times} times in runtime/kv/${file}")
  endif()
  string(REPLACE "${right}" "${wrong}" text "${text}")
  set(mutated ${CMAKE_CURRENT_BINARY_DIR}/plan_mutants/${name}/${file})
  file(CONFIGURE OUTPUT ${mutated} CONTENT "${text}" @ONLY) # writes only what differs
  add_executable(plan_mutant_${name} ${mutated} $<TARGET_OBJECTS:coppice_plan_changes_test>)
  target_link_libraries(plan_mutant_${name} PRIVATE coppice_oracles)
  add_test(NAME test_plan_mutant_${name} COMMAND plan_mutant_${name}
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set_tests_properties(test_plan_mutant_${name} PROPERTIES ENVIRONMENT COPPICE_EFFORT=100
    PASS_REGULAR_EXPRESSION "the copy differs:")
endfunction()

# The kv: lengths, page numbers.
coppice_plan_mutant(append_unlisted kv.c
  "(uint32_t)length;\n    if (tokens)\n        cop__change_segment(kv, segment);"
  "(uint32_t)length;")
coppice_plan_mutant(retract_unlisted kv.c
  "-= tokens;\n    if (tokens)\n        cop__change_segment(kv, segment);" "-= tokens;")
coppice_plan_mutant(pages_moved_unlisted kv_pool.c
  "cop__change_pages(kv, segment, 0, keep);" "")
coppice_plan_mutant(pages_first_only kv_pool.c
  "cop__change_pages(kv, segment, state->pages, pages - state->pages);"
  "cop__change_pages(kv, segment, state->pages, 1);")
coppice_plan_mutant(pages_of_the_dead kv_changes.c
  "if (range->first < end) {" "if (true) {")
coppice_plan_mutant(pages_grow_unlisted kv_changes.c
  "range->n = first + n - range->first;" "")

# Rows, tiles, prefill.
coppice_plan_mutant(row_unlisted plan_step.c
  "cop__change(plan, COP_TABLE_SLOTS, slot, 1);" "")
coppice_plan_mutant(slot_freed_unlisted plan.c
  "cop__change(plan, COP_TABLE_SLOTS, slot, 1);" "")
coppice_plan_mutant(tile_put_unlisted plan_tile.c
  "cop__change(plan, COP_TABLE_TILES, tile, 1);" "")
coppice_plan_mutant(tile_left_unlisted plan_tile.c
  "cop__change(plan, COP_TABLE_TILES, state->tile, 1);" "")
coppice_plan_mutant(prefill_slots_unlisted plan_prefill.c
  "cop__change(plan, COP_TABLE_SLOTS, plan->slots_end, plan->n_prefill_slots);" "")
coppice_plan_mutant(limits_unlisted plan_walk.c
  "cop__change(plan, COP_TABLE_LIMITS, plan->n_limits, n);" "")

# Walks and items.
coppice_plan_mutant(entry_masks_only plan_walk.c
  "memcmp(here, &entry, sizeof entry) != 0" "here->mask != entry.mask")
coppice_plan_mutant(entry_last_unlisted plan_walk.c
  "t->first_entry + begin, at - begin);" "t->first_entry + begin, at - begin - 1);")
coppice_plan_mutant(entries_elsewhere_stand plan_walk.c
  "stays ? t->n_entries : 0" "t->n_entries")
coppice_plan_mutant(entries_moved_unlisted plan_walk.c
  "plan->stats.entries_moved++;\n    cop__change_all(plan);" "plan->stats.entries_moved++;")
coppice_plan_mutant(item_move_unlisted plan_items.c
  "cop__change(plan, COP_TABLE_ITEMS, to, 1);" "")
coppice_plan_mutant(item_put_unlisted plan_items.c
  "cop__change(plan, COP_TABLE_ITEMS, place, 1);" "")
coppice_plan_mutant(item_renewed_by_bucket_alone plan_items.c
  "&& memcmp(&plan->items[place], &item, sizeof item) == 0" "")

# Partials, and the lists themselves.
coppice_plan_mutant(partials_number_unlisted plan_walk.c
  "cop__change(plan, COP_TABLE_SLOTS, slot, 1);\n        cop__partials_touch(plan, slot);"
  "cop__partials_touch(plan, slot);")
coppice_plan_mutant(partials_place_unlisted plan_partials.c
  "cop__change(plan, COP_TABLE_SLOTS, slot, 1);" "(void)0;")
coppice_plan_mutant(listed_twice plan_changes.c
  "while (i < first + n && listed[i] != c->turn)" "while (i < first + n)")
coppice_plan_mutant(turn_goes_on plan_changes.c "c->turn++;" "")
coppice_plan_mutant(whole_never_grows plan_changes.c
  "c->ranges[last].n = end;" "(void)0;")
coppice_plan_mutant(kv_cleared_unseen plan_changes.c
  "c->cleared > kv_cleared ? c->cleared : kv_cleared" "c->cleared + 0 * kv_cleared")
coppice_plan_mutant(change_before_clear_unseen plan_changes.c
  "return;\n    plan->kv->version++;\n    for" "return;\n    for")
