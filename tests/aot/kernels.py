"""Hand-written LLVM IR kernels that follow the executable ABI, for any target."""

import numpy as np

from graphmill.codegen.artifact import ArgSpec, Artifact, Constant, DimSpec
from graphmill.codegen.cpu.llvm import compile_ir
from graphmill.codegen.cpu.target import target as named_target

# out[b, j] = tanh(sum_k x[b, k] * w[k, j] + bias[j]); rows over the pool, x copied to the arena
DENSE = """
declare float @tanhf(float)
declare ptr @memcpy(ptr, ptr, i64)
define void @gm_{name}_rows(ptr %data, i64 %begin, i64 %end, i64 %worker) {{
entry:
  %p1 = getelementptr ptr, ptr %data, i64 1
  %p2 = getelementptr ptr, ptr %data, i64 2
  %p3 = getelementptr ptr, ptr %data, i64 3
  %x = load ptr, ptr %data
  %out = load ptr, ptr %p1
  %w = load ptr, ptr %p2
  %bias = load ptr, ptr %p3
  br label %rows
rows:
  %b = phi i64 [%begin, %entry], [%bn, %rowend]
  %mb = icmp slt i64 %b, %end
  br i1 %mb, label %cols, label %done
cols:
  %j = phi i64 [0, %rows], [%jn, %store]
  %mj = icmp slt i64 %j, {cols}
  br i1 %mj, label %init, label %rowend
init:
  %pbias = getelementptr float, ptr %bias, i64 %j
  %start = load float, ptr %pbias
  br label %dot
dot:
  %k = phi i64 [0, %init], [%kn, %step]
  %acc = phi float [%start, %init], [%next, %step]
  %mk = icmp slt i64 %k, {rows}
  br i1 %mk, label %step, label %store
step:
  %xb = mul i64 %b, {rows}
  %xi = add i64 %xb, %k
  %px = getelementptr float, ptr %x, i64 %xi
  %xv = load float, ptr %px
  %wb = mul i64 %k, {cols}
  %wi = add i64 %wb, %j
  %pw = getelementptr float, ptr %w, i64 %wi
  %wv = load float, ptr %pw
  %prod = fmul float %xv, %wv
  %next = fadd float %acc, %prod
  %kn = add i64 %k, 1
  br label %dot
store:
  %t = call float @tanhf(float %acc)
  %ob = mul i64 %b, {cols}
  %oi = add i64 %ob, %j
  %po = getelementptr float, ptr %out, i64 %oi
  store float %t, ptr %po
  %jn = add i64 %j, 1
  br label %cols
rowend:
  %bn = add i64 %b, 1
  br label %rows
done:
  ret void
}}
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{
  %n = load i64, ptr %dims
  %pf = load ptr, ptr %ctx
  %parena = getelementptr ptr, ptr %ctx, i64 2
  %arena = load ptr, ptr %parena
  %x = load ptr, ptr %args
  %bytes = mul i64 %n, {row_bytes}
  %c = call ptr @memcpy(ptr %arena, ptr %x, i64 %bytes)
  %data = alloca [4 x ptr]
  store ptr %arena, ptr %data
  %s1 = getelementptr ptr, ptr %args, i64 1
  %a1 = load ptr, ptr %s1
  %d1 = getelementptr ptr, ptr %data, i64 1
  store ptr %a1, ptr %d1
  %s2 = getelementptr ptr, ptr %args, i64 2
  %a2 = load ptr, ptr %s2
  %d2 = getelementptr ptr, ptr %data, i64 2
  store ptr %a2, ptr %d2
  %s3 = getelementptr ptr, ptr %args, i64 3
  %a3 = load ptr, ptr %s3
  %d3 = getelementptr ptr, ptr %data, i64 3
  store ptr %a3, ptr %d3
  call void %pf(ptr %ctx, ptr @gm_{name}_rows, ptr %data, i64 %n, i64 1)
  ret i32 0
}}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{
  %n = load i64, ptr %dims
  %bytes = mul i64 %n, {row_bytes}
  %up = add i64 %bytes, 63
  %whole = and i64 %up, -64
  ret i64 %whole
}}
"""

# out[i] = x[i * stride] over a strided input
COPY = """
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{
entry:
  %n = load i64, ptr %dims
  %ps = getelementptr i64, ptr %dims, i64 1
  %s = load i64, ptr %ps
  %x = load ptr, ptr %args
  %po = getelementptr ptr, ptr %args, i64 1
  %o = load ptr, ptr %po
  br label %head
head:
  %i = phi i64 [0, %entry], [%next, %body]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %at = mul i64 %i, %s
  %px = getelementptr double, ptr %x, i64 %at
  %v = load double, ptr %px
  %pv = getelementptr double, ptr %o, i64 %i
  store double %v, ptr %pv
  %next = add i64 %i, 1
  br label %head
done:
  ret i32 0
}}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{
  ret i64 0
}}
"""

# out[0] = table[index[0]] of 10 elements, refusing an index out of bounds as check="bounds" does
PICK = """
define i32 @gm_{name}(ptr %ctx, ptr %args, ptr %dims) {{
  %pt = load ptr, ptr %args
  %a1 = getelementptr ptr, ptr %args, i64 1
  %pi = load ptr, ptr %a1
  %a2 = getelementptr ptr, ptr %args, i64 2
  %po = load ptr, ptr %a2
  %i = load i64, ptr %pi
  %bad = icmp uge i64 %i, 10
  br i1 %bad, label %wrong, label %right
right:
  %px = getelementptr float, ptr %pt, i64 %i
  %v = load float, ptr %px
  store float %v, ptr %po
  ret i32 0
wrong:
  %pe = getelementptr ptr, ptr %ctx, i64 3
  %e = load ptr, ptr %pe
  store i64 1, ptr %e
  %e1 = getelementptr i64, ptr %e, i64 1
  store i64 1, ptr %e1
  %e2 = getelementptr i64, ptr %e, i64 2
  store i64 0, ptr %e2
  %e3 = getelementptr i64, ptr %e, i64 3
  store i64 %i, ptr %e3
  %e4 = getelementptr i64, ptr %e, i64 4
  store i64 10, ptr %e4
  ret i32 1
}}
define i64 @gm_{name}_arena(ptr %dims, i64 %threads) {{
  ret i64 0
}}
"""


def compiled(text, target="native", **fields):
    return compile_ir(text.format(**fields), named_target(target)).object


def dense(name="dense", rows=6, cols=5, target="native", lo=0, hi=None, seed=0):
    """The artifact of one dense layer, and its weights and bias as arrays."""
    random = np.random.default_rng(seed)
    w = random.standard_normal((rows, cols), np.float32)
    bias = random.standard_normal(cols, np.float32)
    code = compiled(DENSE, target, name=name, rows=rows, cols=cols, row_bytes=4 * rows)
    made = Artifact(
        name, f"gm_{name}", target, code,
        (ArgSpec("x", "f32", ("batch", rows)),), (ArgSpec("out", "f32", ("batch", cols)),),
        dims=(DimSpec("batch", lo, hi),), arena_bytes=None,
        constants=(
            Constant("w", "f32", w.shape, w.tobytes()),
            Constant("bias", "f32", bias.shape, bias.tobytes()),
        ),
    )  # fmt: skip
    return made, w, bias


def copy(name="copy", target="native"):
    """The artifact of a copy out of a strided vector."""
    shape = ("n",)
    return Artifact(
        name, f"gm_{name}", target, compiled(COPY, target, name=name),
        (ArgSpec("x", "f64", shape, strided=True),), (ArgSpec("out", "f64", shape),),
        dims=(DimSpec("n", 0, 1000),),
    )  # fmt: skip


def pick(name="pick", target="native"):
    """The artifact of a checked lookup in ten numbers."""
    return Artifact(
        name, f"gm_{name}", target, compiled(PICK, target, name=name),
        (ArgSpec("table", "f32", (10,)), ArgSpec("index", "i64", ())),
        (ArgSpec("out", "f32", ()),), locations=("user.py:1", "user.py:7"),
    )  # fmt: skip
