// RUN: npu-opt %s -p verify-ssa-order --split-input-file --verify-diagnostics --no-verify-each | filecheck %s

// A value that is defined before its use is accepted.
func.func @in_order(%a: i32) -> i32 {
  %0 = arith.addi %a, %a : i32
  %1 = arith.addi %0, %a : i32
  func.return %1 : i32
}
// CHECK: func.func @in_order

// -----

// A value that is used before its definition is refused, with the line of the use.
func.func @out_of_order(%a: i32) -> i32 {
  %1 = arith.addi %y, %a : i32
  %y = arith.addi %a, %a : i32
  func.return %1 : i32
}
// CHECK: error[NPU0203]: {{.*}}verify-ssa-order.mlir:15:3: the operands of arith.addi must be defined before it
// CHECK-SAME: found operand 0 (%y), the result of arith.addi

// -----

// In a graph of blocks, a value must be defined on every way to its use.
func.func @blocks(%c: i1, %a: i32) -> i32 {
  "cf.cond_br"(%c, %a)[^one, ^two] <{operandSegmentSizes = array<i32: 1, 1, 0>}> : (i1, i32) -> ()
^one(%x: i32):
  "cf.br"(%x)[^two] : (i32) -> ()
^two:
  func.return %x : i32
}
// CHECK: error[NPU0203]: {{.*}}: the operands of func.return must be defined before it
